# Debian packages by CPack: `cpack -G DEB` in a build folder. Two: vgpu-guest holds what a guest needs (the shim
# libraries, vgpu-deploy, vgpu-probe, the udev rule), vgpu-host the device. Installing either activates nothing: no
# maintainer script, no service, no folder on the loader's path.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME vgpu)
set(CPACK_PACKAGE_VENDOR vgpu)
set(CPACK_PACKAGE_CONTACT "vgpu")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_FILE_NAME "vgpu-${PROJECT_VERSION}")
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL guest host)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION misc)
set(CPACK_DEBIAN_PACKAGE_HOMEPAGE "")
# dpkg-shlibdeps, where it is installed, names the libraries that the programs need.
find_program(VGPU_SHLIBDEPS dpkg-shlibdeps)
if(VGPU_SHLIBDEPS)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${VGPU_SHIM_LIB_DIR}")
endif()
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS OFF)
set(CPACK_DEBIAN_GUEST_PACKAGE_NAME vgpu-guest)
set(CPACK_DEBIAN_HOST_PACKAGE_NAME vgpu-host)
set(CPACK_COMPONENT_GUEST_DESCRIPTION
    "CUDA over a paravirtual GPU: the guest's part
 Libraries that take the place of NVIDIA's for the one service that vgpu-deploy
 gives them to, vgpu-deploy itself, vgpu-probe, and the udev rule for the device.
 Installing the package activates nothing.")
set(CPACK_COMPONENT_HOST_DESCRIPTION
    "CUDA over a paravirtual GPU: the host's part
 vgpu-device serves CUDA programs of this machine or of virtual machines.")
include(CPack)
