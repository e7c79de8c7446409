//! GPUs as the operating system lists them. Whether a runtime can use one is for the runtime's own list to say.

/// A GPU that could compute. Bare display chips of virtual machines and servers are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// `NVIDIA`, `AMD`, `Intel`, `Apple` or `Arm`.
    pub vendor: &'static str,
    /// Name of the model, as far as the system tells.
    pub name: String,
    /// PCI vendor and device, e.g. `10de:2684`; empty for one that is no PCI device.
    pub id: String,
    /// Kernel driver; `None` without one, and where the system does not tell.
    pub driver: Option<String>,
    /// Memory of its own in bytes, where the system tells.
    pub memory: Option<u64>,
}

/// Asks the operating system.
#[must_use]
pub fn detect() -> Vec<Gpu> {
    system::detect()
}

#[cfg_attr(target_os = "macos", allow(dead_code))]
fn pci_vendor(id: &str) -> Option<&'static str> {
    Some(match id {
        "10de" => "NVIDIA",
        "1002" => "AMD",
        "8086" => "Intel",
        _ => return None,
    })
}

#[cfg(target_os = "linux")]
mod system {
    pub fn detect() -> Vec<super::Gpu> {
        super::linux::detect(std::path::Path::new("/"))
    }
}

#[cfg(target_os = "macos")]
mod system {
    use super::Gpu;
    use crate::hardware::apple::text;

    /// Every Apple processor has a GPU, which shares its memory; those of Intel Macs run no model.
    pub fn detect() -> Vec<Gpu> {
        if !cfg!(target_arch = "aarch64") {
            return Vec::new();
        }
        let name = text("machdep.cpu.brand_string").unwrap_or_else(|| "Apple".to_owned());
        vec![Gpu { vendor: "Apple", name: format!("{name} GPU"), id: String::new(), driver: None, memory: None }]
    }
}

#[cfg(windows)]
mod system {
    use windows_registry::LOCAL_MACHINE;

    use super::{Gpu, pci_vendor};

    /// Where Windows keeps its display adapters.
    const ADAPTERS: &str = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}";

    pub fn detect() -> Vec<Gpu> {
        let Ok(class) = LOCAL_MACHINE.open(ADAPTERS) else { return Vec::new() };
        let Ok(names) = class.keys() else { return Vec::new() };
        names.filter_map(|name| adapter(&class, &name)).collect()
    }

    fn adapter(class: &windows_registry::Key, name: &str) -> Option<Gpu> {
        let key = class.open(name).ok()?;
        // E.g. `PCI\VEN_10DE&DEV_2684&SUBSYS_...`.
        let device = key.get_string("MatchingDeviceId").ok()?.to_lowercase();
        let part = |prefix: &str| Some(device.split_once(prefix)?.1.get(..4)?.to_owned());
        let (vendor, model) = (part("ven_")?, part("dev_")?);
        Some(Gpu {
            vendor: pci_vendor(&vendor)?,
            name: key.get_string("DriverDesc").ok()?,
            id: format!("{vendor}:{model}"),
            driver: key.get_string("DriverVersion").ok(),
            memory: key.get_u64("HardwareInformation.qwMemorySize").ok(),
        })
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod system {
    pub fn detect() -> Vec<super::Gpu> {
        Vec::new()
    }
}

#[cfg(any(target_os = "linux", test))]
mod linux {
    use std::path::{Path, PathBuf};

    use super::{Gpu, pci_vendor};

    /// The PCI class of display controllers.
    const DISPLAY: &str = "0x03";
    /// Where distributions keep the names of PCI devices.
    const NAMES: [&str; 2] = ["usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"];
    /// Drivers of GPUs that are part of an Arm system.
    const ON_CHIP: [&str; 5] = ["panfrost", "panthor", "lima", "msm", "tegra"];

    pub fn detect(root: &Path) -> Vec<Gpu> {
        let mut gpus: Vec<Gpu> =
            entries(&root.join("sys/bus/pci/devices")).iter().filter_map(|device| pci(root, device)).collect();
        gpus.extend(entries(&root.join("sys/class/drm")).iter().filter_map(|card| on_chip(card)));
        gpus
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn read(path: &Path) -> Option<String> {
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn driver(device: &Path) -> Option<String> {
        Some(std::fs::read_link(device.join("driver")).ok()?.file_name()?.to_str()?.to_owned())
    }

    fn pci(root: &Path, device: &Path) -> Option<Gpu> {
        read(&device.join("class")).filter(|class| class.starts_with(DISPLAY))?;
        let id = |name: &str| Some(read(&device.join(name))?.trim_start_matches("0x").to_owned());
        let (vendor, model) = (id("vendor")?, id("device")?);
        let maker = pci_vendor(&vendor)?;
        let slot = device.file_name()?.to_str()?;
        let name = nvidia_name(root, slot)
            .or_else(|| read(&device.join("product_name")))
            .or_else(|| NAMES.iter().find_map(|list| listed(&read(&root.join(list))?, &vendor, &model)))
            .unwrap_or_else(|| format!("{maker} GPU"));
        let memory = read(&device.join("mem_info_vram_total")).and_then(|bytes| bytes.parse().ok());
        Some(Gpu { vendor: maker, name, id: format!("{vendor}:{model}"), driver: driver(device), memory })
    }

    /// NVIDIA's own driver names its devices by their place on the bus.
    fn nvidia_name(root: &Path, slot: &str) -> Option<String> {
        let text = read(&root.join("proc/driver/nvidia/gpus").join(slot).join("information"))?;
        Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned())
    }

    /// A device's name in the list of PCI ids: vendors begin a line, their devices are indented by one tab.
    fn listed(list: &str, vendor: &str, device: &str) -> Option<String> {
        let mut of_vendor = list.lines().skip_while(|line| !line.starts_with(vendor)).skip(1);
        let name = of_vendor
            .by_ref()
            .take_while(|line| line.starts_with(['\t', '#']) || line.is_empty())
            .find_map(|line| line.strip_prefix('\t')?.strip_prefix(device))?;
        Some(name.trim().to_owned())
    }

    fn on_chip(card: &Path) -> Option<Gpu> {
        let name = card.file_name()?.to_str()?;
        if !name.starts_with("card") || name.contains('-') {
            return None;
        }
        let driver = driver(&card.join("device")).filter(|driver| ON_CHIP.contains(&driver.as_str()))?;
        let name = format!("integrated GPU ({driver})");
        Some(Gpu { vendor: "Arm", name, id: String::new(), driver: Some(driver), memory: None })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;

    use super::{Gpu, linux};
    use crate::hardware::cgroup::tests::tree;

    const NAMES: &str = "# PCI ids\n1002  AMD\n\t744c  Navi 31 [Radeon RX 7900 XTX]\n\t\t1002 0e3b  Board\n8086  Intel\n\t56a0  DG2 [Arc A770]\n";

    fn device(slot: &str, class: &str, vendor: &str, model: &str) -> [(String, String); 3] {
        let file = |name: &str, text: &str| (format!("sys/bus/pci/devices/{slot}/{name}"), format!("0x{text}\n"));
        [file("class", class), file("vendor", vendor), file("device", model)]
    }

    fn machine(devices: &[[(String, String); 3]], more: &[(&str, &str)]) -> tempfile::TempDir {
        let files: Vec<(&str, &str)> = devices
            .iter()
            .flatten()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .chain(more.iter().copied())
            .collect();
        tree(&files)
    }

    #[test]
    fn each_maker_is_named_as_well_as_the_system_can() {
        let root = machine(
            &[
                device("0000:01:00.0", "030000", "10de", "2684"),
                device("0000:02:00.0", "030000", "1002", "744c"),
                device("0000:03:00.0", "038000", "8086", "56a0"),
                device("0000:04:00.0", "030200", "10de", "20b0"),
            ],
            &[
                ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ: 1\n"),
                ("sys/bus/pci/devices/0000:02:00.0/mem_info_vram_total", "25753026560\n"),
                ("usr/share/misc/pci.ids", NAMES),
            ],
        );
        std::os::unix::fs::symlink("/drivers/amdgpu", root.path().join("sys/bus/pci/devices/0000:02:00.0/driver"))
            .unwrap();
        let gpu =
            |vendor, name: &str, id: &str| Gpu { vendor, name: name.into(), id: id.into(), driver: None, memory: None };
        let radeon = gpu("AMD", "Navi 31 [Radeon RX 7900 XTX]", "1002:744c");
        let expected = [
            gpu("NVIDIA", "NVIDIA GeForce RTX 4090", "10de:2684"),
            Gpu { driver: Some("amdgpu".into()), memory: Some(25_753_026_560), ..radeon },
            gpu("Intel", "DG2 [Arc A770]", "8086:56a0"),
            gpu("NVIDIA", "NVIDIA GPU", "10de:20b0"),
        ];
        assert_eq!(linux::detect(root.path()), expected);
    }

    #[test]
    fn what_only_drives_a_display_is_left_out() {
        let devices = [
            device("0000:00:01.0", "030000", "1234", "1111"),
            device("0000:00:02.0", "020000", "8086", "10d3"),
            device("0000:00:03.0", "030000", "1a03", "2000"),
        ];
        assert_eq!(linux::detect(machine(&devices, &[]).path()), []);
        assert_eq!(linux::detect(Path::new("/nowhere")), []);
    }

    #[test]
    fn the_gpu_of_an_arm_system_is_known_by_its_driver() {
        let root =
            machine(&[], &[("sys/class/drm/card1/device/uevent", ""), ("sys/class/drm/card1-HDMI-A-1/status", "")]);
        std::os::unix::fs::symlink("/drivers/panthor", root.path().join("sys/class/drm/card1/device/driver")).unwrap();
        let found = linux::detect(root.path());
        assert_eq!(
            found.iter().map(|gpu| (gpu.vendor, gpu.driver.as_deref())).collect::<Vec<_>>(),
            [("Arm", Some("panthor"))]
        );
    }
}
