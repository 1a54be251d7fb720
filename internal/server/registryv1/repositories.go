package registryv1

import (
	"encoding/json"
	"net/http"

	"longshore/internal/core/fault"
	"longshore/internal/server/stream"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/hub"
)

func getTags(x *exchange) error {
	tags, err := x.svc.Tags(x.r.Context(), x.repo)
	if err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusOK, tags)
	return nil
}

func getTag(x *exchange) error {
	id, err := x.svc.Tag(x.r.Context(), x.repo, x.target.Tag)
	if err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusOK, id)
	return nil
}

// putTag needs update for a tag that is there and create for a new one, as a push of today does. "latest" is always new.
func putTag(x *exchange) error {
	there, err := x.svc.HasTag(x.r.Context(), x.repo, x.target.Tag)
	if err != nil {
		return err
	}
	action := auth.Create
	if there && x.target.Tag != "latest" {
		action = auth.Update
	}
	if err := x.may(x.repo, action, x.target.Tag); err != nil {
		return err
	}
	id, err := imageName(stream.NewBody(x, x.r.Body))
	if err != nil {
		return err
	}
	if err := x.svc.PutTag(x.r.Context(), x.caller(), x.repo, x.target.Tag, id); err != nil {
		return err
	}
	return done(x)
}

// deleteTag needs delete. The index knew no token for a tag alone: one for writing will do where its user may delete.
func deleteTag(x *exchange) error {
	if g := x.visit.grant; g != nil && g.Access == hub.Write && g.Repo == x.repo {
		if err := x.gate.Auth.Authorize(x.visit.who, x.gate.Ask(x.r, x.repo, auth.Delete, x.target.Tag)); err != nil {
			return err
		}
	} else if err := x.may(x.repo, auth.Delete, x.target.Tag); err != nil {
		return err
	}
	if err := x.svc.DeleteTag(x.r.Context(), x.repo, x.target.Tag); err != nil {
		return err
	}
	return done(x)
}

func deleteRepository(x *exchange) error {
	if err := x.svc.DeleteRepository(x.r.Context(), x.repo); err != nil {
		return err
	}
	return done(x)
}

// summary is what the reference implementation told of a repository.
type summary struct {
	LastUpdate    int64   `json:"last_update"`
	DockerVersion *string `json:"docker_version"`
	GoVersion     *string `json:"docker_go_version"`
	Arch          string  `json:"arch"`
	OS            string  `json:"os"`
	Kernel        *string `json:"kernel"`
}

func getSummary(x *exchange) error {
	s, err := x.svc.Summary(x.r.Context(), x.repo, x.target.Tag)
	if err != nil {
		return err
	}
	out := summary{LastUpdate: s.Updated, DockerVersion: maybe(s.DockerVersion), Arch: s.Architecture, OS: s.OS, Kernel: maybe(s.Kernel)}
	if out.Arch == "" {
		out.Arch = "amd64"
	}
	if out.OS == "" {
		out.OS = "linux"
	}
	wirev1.JSON(x, http.StatusOK, out)
	return nil
}

func maybe(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// properties of a repository. What they say is said to others, and changes no rights.
type properties struct {
	Access string `json:"access"`
}

func getProperties(x *exchange) error {
	private, err := x.svc.Private(x.r.Context(), x.repo)
	if err != nil {
		return err
	}
	p := properties{"public"}
	if private {
		p.Access = "private"
	}
	wirev1.JSON(x, http.StatusOK, p)
	return nil
}

func putProperties(x *exchange) error {
	data, err := wirev1.Body(x, x.r)
	if err != nil {
		return err
	}
	var p properties
	if json.Unmarshal(data, &p) != nil || p.Access != "public" && p.Access != "private" {
		return fault.Invalid("Invalid data")
	}
	if err := x.svc.SetPrivate(x.r.Context(), x.repo, p.Access == "private"); err != nil {
		return err
	}
	return done(x)
}
