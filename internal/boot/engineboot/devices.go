package engineboot

import (
	"fmt"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/driver/cdi"
	"longshore/internal/driver/ocispec"
	"longshore/internal/driver/projectquota"
	"longshore/internal/service/engine/system"
)

// devices are those that vendors describe; nil inside where the feature "cdi" is off.
type devices struct{ *cdi.Devices }

func (e *engine) findDevices() devices {
	if on, set := e.cfg.Features["cdi"]; set && !on {
		return devices{}
	}
	if dirs := e.cfg.CDISpecDirs; len(dirs) == 1 && dirs[0] == "" { // dockerd's way to say "none"
		return devices{}
	}
	return devices{cdi.New(e.cfg.CDISpecDirs)}
}

// injector puts devices into containers, or refuses them when it is nil.
func (d devices) injector() ocispec.DeviceInjector {
	if d.Devices == nil {
		return nil
	}
	return d.Devices
}

// told are the devices that info tells of.
func (d devices) told() system.Devices {
	if d.Devices == nil {
		return nil
	}
	return d.Devices
}

// storageSize is the bound of writable layers for containers that name none, which the file system must be able to keep.
func storageSize(c *engineconfig.Config) (uint64, error) {
	size, err := c.StorageSize()
	if err != nil || size == 0 {
		return 0, err
	}
	if err := projectquota.Supported(c.DataRoot); err != nil {
		return 0, fmt.Errorf("storage-opts: Storage option overlay2.size not supported. Filesystem does not support Project Quota: %w", err)
	}
	return size, nil
}
