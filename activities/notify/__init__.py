"""Tell receivers of events of jobs: webhooks, e-mail and commands, as far as the settings of the farm allow them."""
