//! Every limit on what a remote can send. A document past one is refused before its content is
//! looked at, and the message names the limit.

/// Limits on documents and messages. [`LIMITS`] is the set that every program uses.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A DSSE envelope as JSON, in bytes: base64 costs a third, so payloads reach about 190 KiB.
    pub envelope_bytes: usize,
    /// Signatures on one envelope: more than any threshold needs, few enough to check on a slow core.
    pub signatures: usize,
    /// An MQTT message, in bytes; a larger document travels as its digest.
    pub mqtt_message_bytes: usize,
    /// One frame between daemon and supervisor, in bytes: two envelopes and their frame.
    pub local_frame_bytes: usize,
    /// Apps in a release.
    pub apps: usize,
    /// Layers of one image (overlayfs takes 500; images in the field have fewer than 128).
    pub layers: usize,
    /// Arguments, environment variables, ports, volumes or capabilities of one app.
    pub entries_per_app: usize,
    /// One argument, variable, path or text, in bytes.
    pub text_bytes: usize,
    /// Devices of one app: as many as a profile can name.
    pub devices: usize,
    /// Boards that one deploy document names.
    pub boards_per_deploy: usize,
    /// Hardware classes that a release names.
    pub hardware_classes: usize,
    /// Networks in a release.
    pub networks: usize,
    /// Networks of one app.
    pub networks_per_app: usize,
    /// Aliases of one app on one network.
    pub aliases: usize,
    /// Resolvers of one app: glibc reads three (resolv.conf(5), MAXNS).
    pub resolvers: usize,
    /// Search domains of one app (resolv.conf(5): six before glibc 2.26).
    pub search_domains: usize,
    /// Entries of one app's egress list: rules and sets of the kernel's, made in one transaction.
    pub egress: usize,
    /// Deltas that one deploy document names.
    pub deltas: usize,
    /// One secret, in bytes: a certificate chain with its key fits.
    pub secret_bytes: usize,
    /// Secrets in one assignment.
    pub secrets: usize,
    /// Keys in a root document.
    pub keys: usize,
    /// Root documents that one stick or one update brings: a board that lacks more takes the next
    /// ones the next time.
    pub roots: usize,
    /// From a command's `issued_at` to its `expires`, in seconds: it is for now.
    pub command_seconds: u64,
    /// Lines of a log that a command asks for.
    pub log_lines: u32,
    /// Actions of one app.
    pub actions: usize,
    /// For one action, in seconds.
    pub action_seconds: u32,
    /// Programs that people have in apps by `exec`, at a time.
    pub execs: usize,
    /// The same, in one app.
    pub execs_per_app: usize,
    /// Arguments and variables of one, in bytes.
    pub exec_bytes: usize,
    /// The text of a command's result, in bytes of JSON.
    pub command_text_bytes: usize,
    /// Largest blob, in bytes (64 GiB).
    pub blob_bytes: u64,
    /// Least size of a writable layer or volume, in bytes.
    pub least_size_bytes: u64,
    /// Largest size of one, in bytes (1 TiB).
    pub size_bytes: u64,
    /// Fewest inodes of one.
    pub least_inodes: u64,
    /// Largest integer in any document: what JSON carries exactly.
    pub integer: u64,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    envelope_bytes: 256 * 1024,
    signatures: 16,
    mqtt_message_bytes: 8 * 1024,
    local_frame_bytes: 768 * 1024,
    apps: 64,
    layers: 127,
    entries_per_app: 128,
    text_bytes: 4096,
    devices: 16,
    boards_per_deploy: 64,
    hardware_classes: 32,
    networks: 32,
    networks_per_app: 8,
    aliases: 16,
    resolvers: 3,
    search_domains: 6,
    egress: 64,
    deltas: 256,
    secret_bytes: 8 * 1024,
    secrets: 16,
    keys: 32,
    roots: 64,
    command_seconds: 15 * 60,
    log_lines: 1000,
    actions: 16,
    action_seconds: 300,
    execs: 16,
    execs_per_app: 4,
    exec_bytes: 64 << 10,
    command_text_bytes: 64 * 1024,
    blob_bytes: 64 << 30,
    least_size_bytes: 64 << 10,
    size_bytes: 1 << 40,
    least_inodes: 16,
    integer: (1 << 53) - 1,
};
