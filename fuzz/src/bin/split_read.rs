//! Any bytes as the records of a tar: an error or an end, never a panic, a hang or a byte from outside the layer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::image::layer::split::assemble;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

fuzz_target!(|data: &[u8]| {
    let work = PathBuf::from(std::env::var_os("FUZZ_WORK").expect("set by run.sh"));
    let layer = work.join("layer");
    if !layer.exists() {
        fs::write(work.join("secret"), b"SECRET").expect("the file can be written");
        for name in ["diff/d", "replaced/1"] {
            fs::create_dir_all(layer.join(name)).expect("the directory can be made");
        }
        for (name, content) in [("diff/f", "file"), ("diff/d/g", "other"), ("replaced/0", "old"), ("replaced/1/h", "older")] {
            fs::write(layer.join(name), content).expect("the file can be written");
        }
        std::os::unix::fs::symlink("../../secret", layer.join("diff/l")).expect("the link can be made");
    }
    let packed = zstd::encode_all(data, 1).expect("memory can be packed");
    fs::write(layer.join("tar-split"), [b"rcon tar-split 1\n", packed.as_slice()].concat()).expect("the file can be written");
    let Ok(tar) = assemble(&layer) else { return };
    let mut bytes = Vec::new();
    drop(tar.take(1 << 22).read_to_end(&mut bytes));
    let told = data.windows(6).any(|piece| piece == b"SECRET");
    assert!(told || !bytes.windows(6).any(|piece| piece == b"SECRET"), "a link was followed");
});
