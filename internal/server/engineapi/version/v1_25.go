package version

import (
	"strings"

	"longshore/internal/base/jsontree"
)

// v1_25 is what 1.25 changed against 1.24 (changelog, "v1.25 API changes"; daemon source of 1.13).
func v1_25() Rung {
	return Rung{Version: "1.25", Source: "version-history.md, docker_remote_api_v1.24.md", Changes: []Change{
		{What: "network mode and cache sources of a build", Routes: []string{buildRoute}, Lift: dropQuery("networkmode", "cachefrom")},
		{What: "auto-removal was the client's work; mounts, stop timeout, init and fine CPU quota", Routes: []string{create}, Lift: dropFields(
			"StopTimeout", "HostConfig.AutoRemove", "HostConfig.Mounts", "HostConfig.NanoCpus", "HostConfig.Init",
			"HostConfig.CpuRealtimePeriod", "HostConfig.CpuRealtimeRuntime", "HostConfig.CpuCount")},
		{What: "before and since of the container list were queries of their own", Routes: []string{list}, Lift: func(r *Request) error {
			for _, name := range []string{"before", "since"} {
				if ref := r.Query.Get(name); ref != "" {
					if err := setFilter(r, name, ref); err != nil {
						return err
					}
				}
				r.Query.Del(name)
			}
			return nil
		}},
		{What: "status removing", Routes: []string{list}, LowerEach: func(v *View) { removingIsExited(v.Body, "State") }},
		{What: "status removing; automatic removal, mounts and fine limits of a container", Routes: []string{inspect}, Lower: inspectBelow25},
		{What: "use of an image in the list", Routes: []string{imageList}, LowerEach: hideFields("Containers", "SharedSize")},
		{What: "identity and storage in stats", Routes: []string{stats}, Lower: statsBelow25, LowerEach: statsBelow25},
		{What: "environment of an exec", Routes: []string{execCreate}, Lift: dropFields("Env")},
		{What: "Pid of an exec", Routes: []string{execInspect}, Lower: hideFields("Pid")},
		{What: "Warnings of an exec", Routes: []string{execCreate}, Lower: func(v *View) { v.Body.Default("Warnings", []string{}) }},
		{What: "OsVersion of an image; empty fields of its Config", Routes: []string{imageInspect}, Lower: func(v *View) {
			v.Body.Delete("OsVersion")
			configBelow25(v.Body.Member("Config"))
			configBelow25(v.Body.Member("ContainerConfig"))
		}},
		{What: "structured security options; Isolation; LiveRestoreEnabled", Routes: []string{info}, Lower: infoBelow25},
		{What: "Created of a network", Routes: []string{networkShow}, Lower: hideFields("Created")},
		{What: "Created of a network", Routes: []string{networkList}, LowerEach: hideFields("Created")},
		{What: "MinAPIVersion", Routes: []string{versionRoute}, Lower: hideFields("MinAPIVersion")},
		{What: "Options of a volume", Routes: []string{volumeShow, volumeCreate}, Lower: hideFields("Options")},
		{What: "Options of a volume", Routes: []string{volumeList}, Lower: func(v *View) {
			for _, vol := range v.Body.Member("Volumes").Items() {
				vol.Delete("Options")
			}
		}},
		{What: "forced removal of a volume", Routes: []string{volumeRemove}, Lift: dropQuery("force")},
	}}
}

func removingIsExited(v *jsontree.Value, field string) {
	if v.Member(field).String() == "removing" {
		v.Set(field, "exited")
	}
}

func inspectBelow25(v *View) {
	removingIsExited(v.Body.Member("State"), "Status")
	v.Body.Member("HostConfig").Delete("AutoRemove", "Mounts", "NanoCpus", "Init", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuCount")
	for _, m := range v.Body.Member("Mounts").Items() {
		m.Delete("Type")
	}
	cfg := v.Body.Member("Config")
	cfg.Delete("StopTimeout")
	cfg.Default("StopSignal", "SIGTERM")
	configBelow25(cfg)
}

// configBelow25 adds what was told of configurations even when empty.
func configBelow25(cfg *jsontree.Value) {
	cfg.Default("MacAddress", "")
	cfg.Default("NetworkDisabled", false)
	cfg.Default("ExposedPorts", nil)
}

func statsBelow25(v *View) {
	v.Body.Delete("id", "name", "num_procs", "preread", "storage_stats")
	v.Body.Member("memory_stats").Default("failcnt", 0)
}

// infoBelow25 turns "name=seccomp,profile=builtin" into "seccomp" and names the execution driver that was gone.
func infoBelow25(v *View) {
	v.Body.Delete("Isolation", "LiveRestoreEnabled", "ContainerdCommit", "RuncCommit", "InitCommit", "InitBinary", "GenericResources", "OSVersion")
	v.Body.Default("InitSha1", "")
	v.Body.Default("InitPath", "")
	var names []string
	for _, o := range v.Body.Member("SecurityOptions").Strings() {
		for _, kv := range strings.Split(o, ",") {
			if n, ok := strings.CutPrefix(kv, "name="); ok && n != "userns" {
				names = append(names, n)
			}
		}
	}
	v.Body.Set("SecurityOptions", names)
	v.Body.Set("ExecutionDriver", "<not supported>")
}
