//! regex-lite under regex's name, in whose place the workspace puts it (`[patch.crates-io]`): as much of it as oci-spec's
//! runtime module calls. No Unicode classes, linear in pattern and text as regex is.

pub use regex_lite::Regex;
