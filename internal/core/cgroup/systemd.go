package cgroup

import (
	"path"
	"strings"
)

// RuntimePath is the group that an OCI runtime makes for a specification's cgroupsPath: a path as it is, and what systemd
// makes of "slice:prefix:name"; empty where that cannot be told.
func RuntimePath(cgroupsPath string) string {
	if strings.HasPrefix(cgroupsPath, "/") {
		return cgroupsPath
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 || !strings.HasSuffix(parts[0], ".slice") {
		return ""
	}
	return path.Join(slicePath(parts[0]), parts[1]+"-"+parts[2]+".scope")
}

// slicePath is the group of a slice: "a-b.slice" lies in "a.slice"; "-.slice" is the root.
func slicePath(slice string) string {
	name := strings.TrimSuffix(path.Base(slice), ".slice")
	dir := "/"
	if name == "-" {
		return dir
	}
	for i, c := range name {
		if c == '-' {
			dir = path.Join(dir, name[:i]+".slice")
		}
	}
	return path.Join(dir, name+".slice")
}
