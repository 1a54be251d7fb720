package version

// v1_55 is what 1.55 changed against 1.54 (changelog, "v1.55 API changes"; daemon's update handler).
func v1_55() Rung {
	return Rung{Version: "1.55", Source: "version-history.md", Changes: []Change{{
		What:   "update honours blkio device settings from 1.55 on; before they were ignored",
		Routes: []string{update},
		Lift: dropFields("BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
			"BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"),
	}}}
}
