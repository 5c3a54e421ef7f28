"""One session as the core sees it: life, prompts, progress, what is sent; it imports recipe, pages and flow of the
core.
"""
