//! Where the kernel keeps its tracepoints, and the offsets of their fields: they differ between kernels, and the
//! kernel describes them in tracefs.

use super::KernelError;
use nix::mount::{MsFlags, mount};
use std::{fs, path::Path};

/// Where tracefs belongs.
const TRACEFS: &str = "/sys/kernel/tracing";

/// Mounts tracefs where it is missing.
pub(super) fn mount_tracefs() -> Result<(), KernelError> {
    if Path::new(TRACEFS).join("events").is_dir() {
        return Ok(());
    }
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| KernelError::Io { action: "mount tracefs at /sys/kernel/tracing", source: errno.into() })
}

/// The format description of a tracepoint.
pub(super) struct Format {
    name: &'static str,
    text: String,
}

impl Format {
    /// Reads it.
    pub(super) fn read(category: &str, name: &'static str) -> Result<Self, KernelError> {
        let path = Path::new(TRACEFS).join("events").join(category).join(name).join("format");
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| KernelError::Tracepoint { name, reason: error.to_string() })?;
        Ok(Self { name, text })
    }

    /// The offset of a field that must be there.
    pub(super) fn offset(&self, field: &str) -> Result<u32, KernelError> {
        self.find(field)
            .ok_or_else(|| KernelError::Tracepoint { name: self.name, reason: format!("it has no field {field}") })
    }

    /// The offset of a field; `\tfield:pid_t child_pid;\toffset:20;\tsize:4;\tsigned:1;`.
    pub(super) fn find(&self, field: &str) -> Option<u32> {
        self.text.lines().find_map(|line| {
            let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
            let name = declaration.rsplit(' ').next()?.split('[').next()?;
            let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
            (name == field).then(|| offset.parse().ok())?
        })
    }
}
