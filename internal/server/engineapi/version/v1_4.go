package version

import (
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
		{What: "forwarding in info", Routes: []string{info}, Lower: func(v *View) {
			listeners := v.Body.Member("NEventsListener").Int()
			v.Body.Delete("IPv4Forwarding")
			v.Body.Set("EventsListeners", listeners)
			v.Body.Set("LXCVersion", "")
		}},
	}}
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
