"""What runs on, or talks to, a node: facts, container specs, SSH and Docker.

Never decides which workload goes where, and never touches the database.
"""
