// Discovery through libpci. Its error handler must not return, and the default one ends the process; ours
// jumps back out. Only plain data lives in the frames that are jumped over.
#include "pci/discover.h"

extern "C" {
#include <pci/pci.h>
}
#include <setjmp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <mutex>
#include <tuple>
#include <utility>

#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::pci {
namespace {

constexpr uint32_t kMaxDevices = 256;
constexpr uint32_t kBars = 6;

struct RawDevice {
  PciAddress address;
  uint16_t vendor;
  uint16_t device;
  uint16_t subsystem_vendor;
  uint16_t subsystem_device;
  uint8_t revision;
  int32_t numa_node;
  uint64_t base[kBars];
  uint64_t size[kBars];
  bool memory_enabled;
  char driver[64];
  char error[256];  // libpci's words if it could not read the device
};

struct Scan {
  RawDevice devices[kMaxDevices];
  uint32_t count;
  char error[256];
};

// libpci's handlers take no context, so that one call at a time uses these.
std::mutex scan_mutex;
jmp_buf error_return;
char* error_text = nullptr;
constexpr std::size_t kErrorBytes = sizeof(Scan::error);

[[gnu::noreturn]] void on_error(char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(error_text, kErrorBytes, format, arguments);
  va_end(arguments);
  longjmp(error_return, 1);  // NOLINT(bugprone-setjmp-longjmp,cert-err52-cpp): libpci offers no other way out
}

void on_message(char* /*format*/, ...) {}

// Words go to raw->error and false comes back if libpci gave up.
bool read_device(pci_dev* dev, RawDevice* raw) {
  error_text = raw->error;
  if (setjmp(error_return) != 0) {
    return false;
  }
  pci_fill_info(dev, PCI_FILL_BASES | PCI_FILL_SIZES | PCI_FILL_SUBSYS | PCI_FILL_CLASS_EXT |
                         PCI_FILL_NUMA_NODE | PCI_FILL_DRIVER);
  raw->subsystem_vendor = dev->subsys_vendor_id;
  raw->subsystem_device = dev->subsys_id;
  raw->revision = dev->rev_id;
  raw->memory_enabled = (pci_read_word(dev, PCI_COMMAND) & PCI_COMMAND_MEMORY) != 0;
  raw->numa_node = (dev->known_fields & PCI_FILL_NUMA_NODE) != 0 ? dev->numa_node : -1;
  for (uint32_t i = 0; i < kBars; ++i) {
    raw->base[i] = dev->base_addr[i];
    raw->size[i] = dev->size[i];
  }
  if (const char* driver = pci_get_string_property(dev, PCI_FILL_DRIVER); driver != nullptr) {
    std::snprintf(raw->driver, sizeof(raw->driver), "%s", driver);
  }
  return true;
}

// Whether the ids could be read and are ivshmem's. A function that vanished meanwhile is none.
bool is_ivshmem(pci_dev* dev, char* error) {
  error_text = error;
  if (setjmp(error_return) != 0) {
    return false;
  }
  pci_fill_info(dev, PCI_FILL_IDENT);
  return dev->vendor_id == kIvshmemVendor && dev->device_id == kIvshmemDevice;
}

bool scan_bus(pci_access* access, Scan* scan) {
  error_text = scan->error;
  if (setjmp(error_return) != 0) {
    return false;
  }
  pci_init(access);
  pci_scan_bus(access);
  return true;
}

bool run_scan(const char* sysfs_pci, Scan* scan) {
  pci_access* const access = pci_alloc();
  access->method = PCI_ACCESS_SYS_BUS_PCI;  // never the I/O ports that libpci would fall back to
  access->error = on_error;
  access->warning = on_message;
  access->debug = on_message;
  char parameter[] = "sysfs.path";
  pci_set_param(access, parameter, const_cast<char*>(sysfs_pci));
  const bool ok = scan_bus(access, scan);
  if (ok) {
    for (pci_dev* dev = access->devices; dev != nullptr && scan->count < kMaxDevices; dev = dev->next) {
      if (!is_ivshmem(dev, scan->error)) {
        continue;
      }
      RawDevice* raw = &scan->devices[scan->count++];
      raw->address = {static_cast<uint32_t>(dev->domain), dev->bus, dev->dev, dev->func};
      raw->vendor = dev->vendor_id;
      raw->device = dev->device_id;
      raw->numa_node = -1;
      read_device(dev, raw);
    }
  }
  pci_cleanup(access);
  return ok;
}

// The number in a small file of sysfs; -1 if there is none.
int32_t number_in(const std::string& path) {
  int32_t number = -1;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    if (std::fscanf(file, "%d", &number) != 1) {  // NOLINT(cert-err34-c): out of range is -1 as well
      number = -1;
    }
    std::fclose(file);
  }
  return number;
}

// "" if BAR2 holds a region, else the reason why not.
std::string why_no_region(const std::string& directory) {
  auto bar = Bar::open_pci(directory, kRegionBar, Access::kReadOnly);
  if (!bar) {
    return bar.error().text;
  }
  const auto* header = reinterpret_cast<const ring::RegionHeader*>(bar->bytes().data());
  return ring::load_acquire(header->magic) == ring::kRegionMagic ? "" : bar->path() + " holds no vgpu region";
}

}  // namespace

std::expected<std::vector<DiscoveredDevice>, Error> discover(const std::string& sysfs_root) {
  std::vector<DiscoveredDevice> found;
  const std::string sysfs_pci = sysfs_root + "/bus/pci";
  struct stat status{};
  if (::stat((sysfs_pci + "/devices").c_str(), &status) != 0) {
    return found;  // a machine without PCI
  }
  const auto scan = std::make_unique<Scan>();
  {
    const std::lock_guard lock(scan_mutex);
    if (!run_scan(sysfs_pci.c_str(), scan.get())) {
      return std::unexpected(Error{ErrorCode::kSystem, "libpci, scanning " + sysfs_pci + ": " + scan->error});
    }
  }
  for (uint32_t i = 0; i < scan->count; ++i) {
    const RawDevice& raw = scan->devices[i];
    DiscoveredDevice device;
    device.address = raw.address;
    device.vendor = raw.vendor;
    device.device = raw.device;
    device.subsystem_vendor = raw.subsystem_vendor;
    device.subsystem_device = raw.subsystem_device;
    device.revision = raw.revision;
    device.numa_node = raw.numa_node;
    device.sysfs_directory = sysfs_pci + "/devices/" + raw.address.text();
    device.driver = raw.driver;
    device.memory_enabled = raw.memory_enabled;
    device.acpi_index = number_in(device.sysfs_directory + "/acpi_index");
    for (uint32_t bar = 0; bar < kBars; ++bar) {
      if (raw.size[bar] == 0) {
        continue;
      }
      BarInfo info;
      info.index = bar;
      info.bytes = raw.size[bar];
      info.memory = (raw.base[bar] & PCI_BASE_ADDRESS_SPACE) == PCI_BASE_ADDRESS_SPACE_MEMORY;
      const uint64_t type = raw.base[bar] & PCI_BASE_ADDRESS_MEM_TYPE_MASK;
      info.is_64bit = info.memory && type == PCI_BASE_ADDRESS_MEM_TYPE_64;
      info.prefetchable = info.memory && (raw.base[bar] & PCI_BASE_ADDRESS_MEM_PREFETCH) != 0;
      info.bus_address = raw.base[bar] & (info.memory ? PCI_ADDR_MEM_MASK : PCI_ADDR_IO_MASK);
      device.bars.push_back(info);
    }
    device.why_not =
        raw.error[0] != '\0' ? std::string("libpci: ") + raw.error : why_no_region(device.sysfs_directory);
    device.has_region = device.why_not.empty();
    found.push_back(std::move(device));
  }
  std::sort(found.begin(), found.end(), [](const DiscoveredDevice& a, const DiscoveredDevice& b) {
    const auto key = [](const PciAddress& p) { return std::tuple(p.domain, p.bus, p.device, p.function); };
    return key(a.address) < key(b.address);
  });
  return found;
}

}  // namespace vgpu::pci
