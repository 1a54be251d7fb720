package version

import "longshore/internal/base/jsontree"

// v1_40 is what 1.40 changed against 1.39 (changelog, "v1.40 API changes"; daemon source of 19.03).
func v1_40() Rung {
	return Rung{Version: "1.40", Source: "version-history.md", Changes: []Change{
		{What: "IPC mode is private by default; device requests; binds that are not recursive", Routes: []string{create}, Lift: createBelow40},
		{What: "outputs of a build", Routes: []string{buildRoute}, Lift: dropQuery("outputs")},
		{What: "device requests of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.DeviceRequests", "HostConfig.KernelMemoryTCP")},
		{What: "pids limit of an update", Routes: []string{update}, Lift: dropFields("PidsLimit")},
		{What: "PidsLimit of info", Routes: []string{info}, Lower: hideFields("PidsLimit", "KernelMemoryTCP")},
	}}
}

func createBelow40(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	hc := body.Ensure("HostConfig")
	if hc.Member("IpcMode").Empty() {
		hc.Set("IpcMode", "shareable")
	}
	hc.Delete("DeviceRequests", "KernelMemoryTCP")
	return eachMount(r, func(m *jsontree.Value) error {
		m.Member("BindOptions").Delete("NonRecursive")
		return nil
	})
}
