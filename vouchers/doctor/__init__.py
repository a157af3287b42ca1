"""The books are looked at, each break is said in a sentence, and what can be healed safely is healed.

A module for each kind of break; `rounds.py` goes through all of them.
"""
