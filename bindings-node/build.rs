//! Passes on what linking an addon needs on each platform.

fn main() {
    napi_build::setup();
}
