//! One container: namespaces, cgroups, seccomp, launch
