//! Whole-system tests and the demo: a console and virtual boards in network namespaces
