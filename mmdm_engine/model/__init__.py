"""The networks: Kinematic Attention Aggregation and what is built from it.

Tensors are (batch, time, joint, channel).
"""
