"""Events and effects into counts, log lines and spans; it imports the core and the declarations."""
