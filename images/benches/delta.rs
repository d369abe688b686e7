//! What a delta costs on a real pair of layers. Each step is a process of its own, so that its memory can be
//! read at its end:
//!
//! ```text
//! delta make BASE.tar TARGET.tar OUT.delta
//! delta unpack LAYER.tar FOLDER              (as root)
//! delta apply IN.delta BASE_FOLDER FOLDER    (as root)
//! delta decode IN.delta BASE_FOLDER          (the tar stream alone, which goes nowhere)
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::time::Instant;

use coracle_images::Limits;
use coracle_images::delta::DeltaReader;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Source, apply_layer};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    match arguments[..] {
        ["make", base, target, out] => {
            let open = |path| File::open(path).map(BufReader::new);
            let made = coracle_images::delta::make(open(base)?, open(target)?, File::create(out)?)?;
            println!("delta {} bytes, sections {:?}", made.size, made.sections);
        }
        ["unpack", layer, folder] => {
            let source = Source::Full {
                blob: File::open(layer)?,
                layer: LayerType::Tar,
            };
            report(apply_layer(
                source,
                made_folder(folder)?,
                &Limits::default(),
            )?);
        }
        ["apply", delta, base, folder] => {
            let source = Source::Delta {
                blob: File::open(delta)?,
                base: File::open(base)?.into(),
            };
            report(apply_layer(
                source,
                made_folder(folder)?,
                &Limits::default(),
            )?);
        }
        ["decode", delta, base] => {
            let (blob, base) = (File::open(delta)?, File::open(base)?.into());
            let mut reader = DeltaReader::open(blob, base, &Limits::default())?;
            println!("{} bytes", io::copy(&mut reader, &mut io::sink())?);
        }
        _ => {
            println!(
                "give `make`, `unpack`, `apply` or `decode`: see the head of benches/delta.rs"
            );
            return Ok(());
        }
    }
    let peak = fs::read_to_string("/proc/self/status")?;
    let peak = peak
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default()
        .to_owned();
    println!("{:.2} s, {peak}", begun.elapsed().as_secs_f64());
    Ok(())
}

fn made_folder(path: &str) -> Result<OwnedFd, Failure> {
    fs::create_dir(path)?;
    Ok(File::open(path)?.into())
}

fn report(applied: coracle_images::unpack::Applied) {
    println!(
        "{} entries, {} tar bytes, {}",
        applied.entries, applied.tar_bytes, applied.diff_id
    );
}
