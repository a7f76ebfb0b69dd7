"""The animator's rig and the motion contract: who is who (`roles`), reading (`read`), writing (`write`)."""
