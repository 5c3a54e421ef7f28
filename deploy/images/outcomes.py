"""How a trial of the images can end early: the machine cannot do it, or the image is not what it must be."""

from __future__ import annotations


class Unable(Exception):
    """This machine cannot build or run images; the message says why. It says nothing about the image."""


class Wrong(Exception):
    """The image cannot be built, or does not do what it must; the message says what."""
