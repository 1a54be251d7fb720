// Package containers holds the handlers of /containers and /exec in the newest API's terms. They translate between HTTP
// and the container service and decide nothing.
package containers

import (
	"longshore/internal/server/route"
	"longshore/internal/service/engine/containers"
)

// handlers translate for one service.
type handlers struct {
	svc          *containers.Service
	experimental bool   // the daemon runs in experimental mode
	mark         string // stands for the status in texts of lists
}

// Routes are all operations on containers and execs but archive, export, changes and commit. Checkpoints are there in
// experimental mode, as with dockerd.
func Routes(svc *containers.Service, experimental bool) []route.Route {
	h := &handlers{svc: svc, experimental: experimental, mark: newMark()}
	return []route.Route{
		{Method: "GET", Pattern: "/containers/json", Since: "1.0", Handle: h.list},
		{Method: "POST", Pattern: "/containers/create", Since: "1.0", Handle: h.create},
		{Method: "POST", Pattern: "/containers/prune", Since: "1.25", Handle: h.prune},
		{Method: "GET", Pattern: "/containers/{id}/json", Since: "1.0", Handle: h.inspect},
		{Method: "GET", Pattern: "/containers/{id}/top", Since: "1.3", Handle: h.top},
		{Method: "GET", Pattern: "/containers/{id}/logs", Since: "1.11", Handle: h.logs},
		{Method: "GET", Pattern: "/containers/{id}/stats", Since: "1.17", Handle: h.stats},
		{Method: "GET", Pattern: "/containers/{id}/attach/ws", Since: "1.0", Handle: h.attachWS},
		{Method: "POST", Pattern: "/containers/{id}/attach", Since: "1.0", Handle: h.attach},
		{Method: "POST", Pattern: "/containers/{id}/start", Since: "1.0", Handle: h.start},
		{Method: "POST", Pattern: "/containers/{id}/stop", Since: "1.0", Handle: h.stop},
		{Method: "POST", Pattern: "/containers/{id}/restart", Since: "1.0", Handle: h.restart},
		{Method: "POST", Pattern: "/containers/{id}/kill", Since: "1.0", Handle: h.kill},
		{Method: "POST", Pattern: "/containers/{id}/pause", Since: "1.12", Handle: h.pause},
		{Method: "POST", Pattern: "/containers/{id}/unpause", Since: "1.12", Handle: h.unpause},
		{Method: "POST", Pattern: "/containers/{id}/wait", Since: "1.0", Handle: h.wait},
		{Method: "POST", Pattern: "/containers/{id}/resize", Since: "1.0", Handle: h.resize},
		{Method: "POST", Pattern: "/containers/{id}/rename", Since: "1.17", Handle: h.rename},
		{Method: "POST", Pattern: "/containers/{id}/update", Since: "1.22", Handle: h.update},
		{Method: "DELETE", Pattern: "/containers/{id}", Since: "1.0", Handle: h.remove},
		{Method: "DELETE", Pattern: "/containers/{id}/{alias}", Since: "1.0", Handle: h.remove}, // of a link
		{Method: "POST", Pattern: "/containers/{id}/exec", Since: "1.15", Handle: h.execCreate},
		{Method: "GET", Pattern: "/exec/{id}/json", Since: "1.16", Handle: h.execInspect},
		{Method: "POST", Pattern: "/exec/{id}/start", Since: "1.15", Handle: h.execStart},
		{Method: "POST", Pattern: "/exec/{id}/resize", Since: "1.15", Handle: h.execResize},
		{Method: "GET", Pattern: "/containers/{id}/checkpoints", Since: "1.25", Handle: h.trial(h.checkpoints)},
		{Method: "POST", Pattern: "/containers/{id}/checkpoints", Since: "1.25", Handle: h.trial(h.createCheckpoint)},
		{Method: "DELETE", Pattern: "/containers/{id}/checkpoints/{checkpoint}", Since: "1.25", Handle: h.trial(h.removeCheckpoint)},
	}
}
