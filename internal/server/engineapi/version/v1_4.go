package version

import (
	"strconv"

	"longshore/internal/base/jsontree"
)

// v1_4 is what 1.4 changed against 1.3 (changelog, "v1.4 API changes"; original document of 1.3).
func v1_4() Rung {
	return Rung{Version: "1.4", Source: "version-history.md, original/docker_remote_api_v1.3.rst", Changes: []Change{
		{What: "nocache of a build", Routes: []string{buildRoute}, Lift: dropQuery("nocache")},
		{What: "privileges and working directory", Routes: []string{create}, Lift: dropFields("Privileged", "WorkingDir")},
		{What: "working directory", Routes: []string{inspect}, Lower: hideFields("Config.WorkingDir")},
		{What: "working directory", Routes: []string{imageInspect}, Lower: hideFields("container_config.WorkingDir", "config.WorkingDir")},
		{What: "processes as objects", Routes: []string{topRoute}, Lift: topBelow4, Lower: processObjects},
		{What: "image of container events", Routes: []string{eventsRoute}, LowerEach: hideFields("from")},
		{What: "forwarding in info; kernel and listeners", Routes: []string{info}, Lower: infoBelow4},
	}}
}

// infoBelow4 tells what 1.4 to 1.10 did not: the handler's own answer has it.
func infoBelow4(v *View) {
	all, err := jsontree.Of(v.Typed)
	if err != nil {
		return
	}
	v.Body.Delete("IPv4Forwarding")
	v.Body.Set("EventsListeners", strconv.FormatInt(all.Member("NEventsListener").Int(), 10))
	v.Body.Set("LXCVersion", "")
	v.Body.Set("KernelVersion", all.Member("KernelVersion").String())
}

// topBelow4 asks for the columns that the objects of 1.3 have.
func topBelow4(r *Request) error {
	r.Query.Set("ps_args", "-eo pid,tty,time,comm")
	return nil
}

func processObjects(v *View) {
	rows := []*jsontree.Value{}
	for _, p := range v.Body.Member("Processes").Items() {
		cols := p.Strings()
		if len(cols) < 4 {
			continue
		}
		row, err := jsontree.Of(struct{ PID, Tty, Time, Cmd string }{cols[0], cols[1], cols[2], cols[3]})
		if err == nil {
			rows = append(rows, row)
		}
	}
	v.Body.SetItems(rows)
}
