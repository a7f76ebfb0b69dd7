"""From several calibrated cameras to clean joint positions: what the paper calls the capture front end."""
