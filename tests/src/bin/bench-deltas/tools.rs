//! What makes and applies deltas, each as shell commands that run in a fresh process.
//!
//! `$O` and `$N` are the two trees, `$OT` and `$NT` their tars, `$W` a folder of the tool's own.

/// A tool.
pub struct Tool {
    pub name: &'static str,
    /// Before making, not measured.
    pub prepare: &'static str,
    /// Makes the delta.
    pub make: &'static str,
    /// Prints the bytes on the wire.
    pub size: &'static str,
    /// Applies it; nothing for a full layer. Then `$W/out` must be `$NT` or the tree `$N`.
    pub apply: &'static str,
    /// Compares what came out.
    pub check: &'static str,
}

const SAME_TAR: &str = "cmp $W/out $NT";

pub const TOOLS: [Tool; 9] = [
    Tool {
        name: "full layer, zstd -19",
        prepare: "",
        make: "zstd -q -19 -f $NT -o $W/d",
        size: "stat -c %s $W/d",
        apply: "zstd -q -d -f $W/d -o $W/out",
        check: SAME_TAR,
    },
    Tool {
        name: "zstd -19 --patch-from",
        prepare: "",
        make: "zstd -q -19 --long=27 -f --patch-from=$OT $NT -o $W/d",
        size: "stat -c %s $W/d",
        apply: "zstd -q -d --long=27 -f --patch-from=$OT $W/d -o $W/out",
        check: SAME_TAR,
    },
    Tool {
        name: "xdelta3 -9",
        prepare: "",
        make: "xdelta3 -q -9 -f -e -B 536870912 -s $OT $NT $W/d",
        size: "stat -c %s $W/d",
        apply: "xdelta3 -q -f -d -B 536870912 -s $OT $W/d $W/out",
        check: SAME_TAR,
    },
    Tool {
        name: "bsdiff 4",
        prepare: "",
        make: "bsdiff $OT $NT $W/d",
        size: "stat -c %s $W/d",
        apply: "bspatch $OT $W/out $W/d",
        check: SAME_TAR,
    },
    // As balenaEngine makes its deltas: librsync with the block size that it recommends for the length, compressed.
    Tool {
        name: "rdiff, zstd -19",
        prepare: "",
        make: "rdiff signature $OT $W/s && rdiff delta $W/s $NT $W/r && zstd -q -19 -f $W/r -o $W/d",
        size: "stat -c %s $W/d",
        apply: "zstd -q -d -c $W/d | rdiff patch $OT - $W/out",
        check: SAME_TAR,
    },
    Tool {
        name: "OSTree static delta",
        prepare: "for r in a b; do ostree init --repo=$W/$r --mode=bare-user; \
                  ostree commit --repo=$W/$r -b old --tree=dir=$O -s old --timestamp=@0 >/dev/null; done; \
                  ostree commit --repo=$W/a -b new --tree=dir=$N -s new --timestamp=@0 >/dev/null",
        make: "ostree static-delta generate --repo=$W/a --from=old --to=new --inline --filename=$W/d >/dev/null",
        size: "stat -c %s $W/d",
        apply: "ostree static-delta apply-offline --repo=$W/b $W/d >/dev/null",
        check: "ostree checkout --repo=$W/b -U $(ostree rev-parse --repo=$W/a new) $W/out && diff -r --no-dereference $W/out $N",
    },
    Tool {
        name: "casync",
        prepare: "casync make --store=$W/old.castr $W/old.caibx $OT >/dev/null",
        make: "casync make --store=$W/new.castr $W/new.caibx $NT >/dev/null",
        size: "(cd $W/new.castr && find . -name '*.cacnk' | while read -r c; do \
               [ -e ../old.castr/$c ] || stat -c %s $c; done; stat -c %s ../new.caibx) | awk '{s += $1} END {print s}'",
        apply: "casync extract --store=$W/new.castr --seed=$OT $W/new.caibx $W/out >/dev/null",
        check: SAME_TAR,
    },
    Tool {
        name: "tar-diff v1, by coracle-release",
        prepare: "",
        make: "$CORACLE delta make --format tar-diff --base $OT --target $NT --output $W/d >/dev/null",
        size: "stat -c %s $W/d",
        apply: "$CORACLE delta apply --base $O --delta $W/d --output $W/out >/dev/null",
        check: SAME_TAR,
    },
    Tool {
        name: "coracle delta",
        prepare: "",
        make: "$CORACLE delta make --base $OT --target $NT --output $W/d >/dev/null",
        size: "stat -c %s $W/d",
        apply: "$CORACLE delta apply --base $O --delta $W/d --output $W/out >/dev/null",
        check: SAME_TAR,
    },
];
