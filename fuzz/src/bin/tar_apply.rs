//! Any bytes as a layer: they are refused or unpacked, nothing outside is touched, and what was unpacked comes back byte
//! for byte. Runs as root on a tmpfs (run.sh).
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::image::layer::split::{Writer, assemble};
use rcon_fuzz::image::layer::{apply_fixups, tar::Reader, unpack};
use std::fs;
use std::io::Read;
use std::path::PathBuf;

/// Headers get the checksums that belong to them: a fuzzer does not guess sums.
fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    let mut at = 0;
    while at + 512 <= tar.len() {
        let block = &mut tar[at..at + 512];
        if block.iter().any(|b| *b != 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = std::str::from_utf8(&block[124..135]).ok().and_then(|text| usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
        at = at.saturating_add(512).saturating_add(size.unwrap_or(0).next_multiple_of(512));
    }
    tar
}

fuzz_target!(|data: &[u8]| {
    let tar = with_sums(data);
    let work = PathBuf::from(std::env::var_os("FUZZ_WORK").expect("set by run.sh"));
    let (layer, outside) = (work.join("layer"), work.join("outside"));
    drop(fs::remove_dir_all(&layer));
    fs::create_dir_all(layer.join("diff")).expect("the directory can be made");
    if !outside.exists() {
        fs::create_dir_all(outside.join("lower")).expect("the directory can be made");
        fs::write(outside.join("lower/present"), b"present").expect("the file can be written");
    }
    let diff = layer.join("diff");
    let split = Writer::beside(&diff).expect("the records can be begun");
    if let Ok(unpacked) = unpack(&mut Reader::recorded(tar.as_slice(), split), &diff) {
        drop(apply_fixups(&unpacked.fixups, &diff, &[outside.join("lower")]));
        let mut again = Vec::new();
        assemble(&layer).and_then(|mut tar| tar.read_to_end(&mut again)).expect("the tar can be made again");
        assert!(again == tar, "{} bytes came back of {}", again.len(), tar.len());
    }
    let names: Vec<_> = fs::read_dir(&outside).expect("it is there").chain(fs::read_dir(outside.join("lower")).expect("it is there")).collect();
    assert_eq!(names.len(), 2, "nothing was made outside");
    assert_eq!(fs::read(outside.join("lower/present")).expect("it is there"), b"present");
    let others = fs::read_dir(&work).expect("it is there").count();
    assert_eq!(others, 2, "nothing was made beside the layer");
});
