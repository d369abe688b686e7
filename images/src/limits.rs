//! Every limit that input from elsewhere is held to, in one struct.

/// What a board accepts from an image. A value is "at most this much"; one more is refused.
///
/// The defaults hold every image that we have seen on a board with room to spare, and keep a
/// hostile one from taking memory or flash: the sizes come from the layer, the layer comes from
/// the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an index, manifest or config document. Registries refuse manifests above 4 MiB;
    /// real ones have a few KiB.
    pub document_bytes: u64,
    /// Bytes of a layer's uncompressed tar stream: the bound for compression bombs, and through
    /// it for the flash that unpacking can take.
    pub unpacked_bytes: u64,
    /// Headers of a layer's tar stream: members', and those that only extend one (long names, PAX).
    pub entries: u64,
    /// Members alone: each one costs an inode. A signed release may say how many there are.
    pub members: u64,
    /// Bytes of a path or of a link's target (Linux: `PATH_MAX` is 4096 with its NUL).
    pub path_bytes: usize,
    /// Components of a path: bounds the folders that are held open at once.
    pub path_depth: usize,
    /// Bytes of all extended attributes of one member, names and values, and 64 for each.
    pub xattr_bytes: usize,
    /// Bytes of one PAX extended header.
    pub pax_bytes: u64,
    /// Opaque folders that are reported to the caller when they can't be marked at once.
    pub opaque_pending: usize,
    /// Bytes of their paths: the caller has to read them.
    pub opaque_bytes: usize,
    /// Window of a zstd frame, in bytes: the decoder's memory. RFC 8878 asks for 8 MiB.
    pub zstd_window_bytes: u64,
    /// Uncompressed bytes of a delta's control section: bounds the operations, and so the work.
    pub delta_control_bytes: u64,
    /// Whether `.wh.` before a name hides what lower layers have there. A volume has no lower layers: there it is a name.
    pub whiteouts: bool,
    /// Whether a layer may hold block and character devices.
    pub devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 1 << 20,
            unpacked_bytes: 4 << 30,
            entries: 500_000,
            members: 500_000,
            path_bytes: 4095,
            path_depth: 128,
            xattr_bytes: 64 << 10,
            pax_bytes: 128 << 10,
            opaque_pending: 4096,
            opaque_bytes: 256 << 10,
            zstd_window_bytes: 8 << 20,
            delta_control_bytes: 64 << 20,
            whiteouts: true,
            devices: true,
        }
    }
}
