"""The workers as the core sees them: what each holds, who gets a session, who is refused; it imports sessions and
recipe of the core.
"""
