//! GPUs as the runtime's own GPU modules list them.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::symbols::{GgmlBackendDevice, GgmlBackendReg};
use super::{Runtime, RuntimeSpec, load_backend};
use crate::error::{EngineError, Result};

/// What a module's file name says after `ggml-`.
const APIS: [&str; 5] = ["cuda", "vulkan", "metal", "hip", "sycl"];

/// A device that layers can be put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuDevice {
    /// The runtime's short name for it, e.g. `Vulkan0`.
    pub name: String,
    /// Its model, as its driver calls it.
    pub description: String,
    /// Bytes of its memory, and of that what is free.
    pub memory: (u64, u64),
}

impl RuntimeSpec {
    /// The GPU modules beside the CPU module, each with its interface (`vulkan`, `cuda`, …). None where the CPU code
    /// is linked in: such builds take no modules.
    #[must_use]
    pub fn gpu_modules(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(folder) = self.cpu_module.as_deref().and_then(std::path::Path::parent) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut modules: Vec<_> = entries
            .flatten()
            .filter_map(|entry| Some((interface(entry.file_name().to_str()?)?, entry.path())))
            .filter(|(_, path)| path.is_file())
            .collect();
        modules.sort();
        modules
    }
}

/// The interface of a GPU module by its file name: `libggml-vulkan.so` is `vulkan`.
fn interface(file_name: &str) -> Option<&'static str> {
    let stem = [".so", ".dylib", ".dll"].iter().find_map(|suffix| file_name.strip_suffix(suffix))?;
    let name = stem.strip_prefix("lib").unwrap_or(stem).strip_prefix("ggml-")?;
    APIS.into_iter().find(|interface| *interface == name)
}

impl Runtime {
    /// The GPUs of this machine, at the first call by loading the runtime's GPU modules. Models that are loaded
    /// afterwards may use them.
    ///
    /// # Errors
    /// [`EngineError::LibraryNotFound`] when the runtime has no GPU module or none that can be loaded,
    /// [`EngineError::InvalidParameter`] when these find no device.
    pub fn gpus(&self) -> Result<&[GpuDevice]> {
        self.gpus.get_or_init(|| self.load_gpus()).as_deref().map_err(Clone::clone)
    }

    fn load_gpus(&self) -> Result<Vec<GpuDevice>> {
        let id = &self.spec.id;
        let modules = self.spec.gpu_modules();
        if modules.is_empty() {
            return Err(EngineError::LibraryNotFound(format!(
                "the runtime {id} has no module for a GPU; `tabagent runtime install --gpu vulkan` fetches one that \
                 has, or `--gpu cuda` for NVIDIA"
            )));
        }
        let (mut devices, mut failures, mut loaded) = (Vec::new(), Vec::new(), Vec::new());
        for (interface, module) in modules {
            match load_backend(&self.symbols, &module) {
                Ok(backend) => {
                    loaded.push(interface);
                    devices.extend(self.devices_of(backend));
                }
                Err(EngineError::LibraryNotFound(reason)) => failures.push(reason),
                Err(error) => return Err(error),
            }
        }
        if !devices.is_empty() {
            return Ok(devices);
        }
        if loaded.is_empty() {
            return Err(EngineError::LibraryNotFound(format!(
                "device not found: no GPU module of {id} can be loaded; is a GPU's driver installed? {}",
                failures.join("; ")
            )));
        }
        Err(EngineError::InvalidParameter {
            param: "gpu_layers",
            message: format!("device not found: {} finds no GPU on this machine", loaded.join(" or ")),
        })
    }

    fn devices_of(&self, backend: *mut GgmlBackendReg) -> Vec<GpuDevice> {
        let (Some(count), Some(get)) = (self.symbols.backend_reg_dev_count, self.symbols.backend_reg_dev_get) else {
            return Vec::new();
        };
        // SAFETY: the library registered this backend just now and keeps it for ever.
        let count = unsafe { count(backend) };
        (0..count)
            .filter_map(|index| {
                // SAFETY: the index is below the count; devices live as long as their backend.
                let device = unsafe { get(backend, index) };
                (!device.is_null()).then(|| self.describe(device))
            })
            .collect()
    }

    fn describe(&self, device: *mut GgmlBackendDevice) -> GpuDevice {
        let text = |read: Option<unsafe extern "C" fn(*mut GgmlBackendDevice) -> *const c_char>| {
            // SAFETY: the device is alive and has a name and a description, NUL-terminated.
            let text = read.map_or(std::ptr::null(), |read| unsafe { read(device) });
            // SAFETY: as above, where it is not null.
            if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
        };
        let (mut free, mut total) = (0_usize, 0_usize);
        if let Some(memory) = self.symbols.backend_dev_memory {
            // SAFETY: the device is alive; both places are written before the call returns.
            unsafe { memory(device, &raw mut free, &raw mut total) };
        }
        GpuDevice {
            name: text(self.symbols.backend_dev_name),
            description: text(self.symbols.backend_dev_description),
            memory: (total as u64, free as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpu_modules_are_known_by_their_names_and_lie_beside_the_cpu_module() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libggml-cuda.so", "libggml-vulkan.so", "libggml-cpu-haswell.so", "libggml-rpc.so", "ggml-cuda.txt"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let spec = |cpu_module| RuntimeSpec {
            id: "test".into(),
            libllama: "libllama.so".into(),
            cpu_module,
            variant: "haswell".into(),
            version: "1".into(),
            reason: String::new(),
        };
        let modular = spec(Some(folder.path().join("libggml-cpu-haswell.so")));
        let found: Vec<&str> = modular.gpu_modules().iter().map(|(interface, _)| *interface).collect();
        assert_eq!(found, ["cuda", "vulkan"]);
        assert_eq!(spec(None).gpu_modules(), []);
        assert_eq!(interface("ggml-vulkan.dll"), Some("vulkan"));
    }
}
