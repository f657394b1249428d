"""Chat models: a language model behind an endpoint, a record of one, a recorder around one, a simulated one."""
