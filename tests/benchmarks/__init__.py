"""Measurements that are committed; run by hand, not by the tests."""
