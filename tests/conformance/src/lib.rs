//! Runs the vectors of tests/vectors against the engine, the runtime and the Lua twin
