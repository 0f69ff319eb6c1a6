"""What runs inside a function or a service that renders: the same attempts as on a worker, told to begin by a call."""
