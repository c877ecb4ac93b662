// What a shim library is and of which version, for whoever finds a file: grep -a 'vgpu shim library' FILE.
namespace {

[[gnu::used, gnu::retain]] const char kIdentity[] = "vgpu shim library " VGPU_VERSION;

}  // namespace
