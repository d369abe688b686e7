//! OCI image layouts, layers, deltas and the store that holds them
