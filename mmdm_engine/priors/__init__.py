"""What a user asks for: in-betweening and refinement of a `Motion`, on top of the networks."""
