//! Python bindings of Tidegate
