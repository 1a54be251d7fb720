package mounts

import (
	"github.com/moby/moby/api/types/container"

	core "longshore/internal/core/container"
)

// Points are the mounts as inspect shows them.
func Points(mounts []core.Mount) []container.MountPoint {
	list := make([]container.MountPoint, 0, len(mounts))
	for _, m := range mounts {
		if !m.Hidden {
			list = append(list, m.MountPoint)
		}
	}
	return list
}
