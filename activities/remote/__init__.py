"""Calling the functions and services that render elsewhere."""
