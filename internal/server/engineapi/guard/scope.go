package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"longshore/internal/core/fault"
	"longshore/internal/core/grant"
	"longshore/internal/server/route"
)

// scope checks one request.
type scope struct {
	ctx     context.Context
	allowed *grant.Grant
	objects Objects
	r       *route.Request
}

// check holds the request to the namespace, and to what may be asked for.
func (s *scope) check(key string) error {
	_, pattern, _ := strings.Cut(key, " ")
	switch key {
	case "POST /containers/create":
		return s.createContainer()
	case "POST /networks/create":
		return s.createNetwork()
	case "POST /volumes/create":
		return s.createVolume()
	case "POST /build":
		return s.build()
	case "POST /commit":
		id, err := s.container(s.r.Query.Get("container"))
		s.r.Query.Set("container", id)
		return err
	case "GET /containers/json", "GET /networks", "GET /volumes", "GET /events", "POST /containers/prune", "POST /networks/prune",
		"POST /volumes/prune", "POST /images/prune":
		return s.narrow()
	case "GET /system/df", "POST /session", "POST /grpc", "POST /build/prune", "POST /build/cancel":
		if len(s.allowed.Labels) > 0 {
			return fault.Forbidden("%v: %s reaches beyond it", errNamespace, key)
		}
		return nil
	}
	switch {
	case strings.HasPrefix(pattern, "/containers/{id}"):
		return s.oneContainer(key)
	case strings.HasPrefix(pattern, "/exec/{id}"):
		of, err := s.objects.ExecContainer(s.r.Var("id"))
		if err == nil {
			_, err = s.container(of)
		}
		return err
	case strings.HasPrefix(pattern, "/networks/{id}"):
		return s.oneNetwork(key)
	case strings.HasPrefix(pattern, "/volumes/{name...}"):
		return s.volume(s.r.Var("name"))
	case strings.HasPrefix(pattern, "/images/{name...}") && !strings.HasPrefix(key, "GET"):
		return s.image(s.r.Var("name"))
	}
	return nil
}

// narrow adds the namespace to the filters of a list.
func (s *scope) narrow() error {
	if len(s.allowed.Labels) == 0 {
		return nil
	}
	f, err := s.r.Filters()
	if err != nil {
		return err
	}
	if f == nil {
		f = route.Filters{}
	}
	for k, v := range s.allowed.Labels {
		f["label"] = append(f["label"], k+"="+v)
	}
	text, err := json.Marshal(f)
	if err == nil {
		s.r.Query.Set("filters", string(text))
	}
	return err
}

// container gives the ID of a container that the caller may see.
func (s *scope) container(ref string) (string, error) {
	id, labels, err := s.objects.Container(s.ctx, ref)
	if err == nil && !s.allowed.Sees(labels) {
		err = errNoSuch("container", ref)
	}
	if err != nil {
		return ref, err
	}
	return id, nil
}

func (s *scope) network(ref string) (string, error) {
	id, labels, err := s.objects.Network(s.ctx, ref)
	if err == nil && !s.allowed.Sees(labels) {
		err = fault.NotFound("network %s not found", ref)
	}
	if err != nil {
		return ref, err
	}
	return id, nil
}

func (s *scope) volume(name string) error {
	labels, err := s.objects.Volume(s.ctx, name)
	if err == nil && !s.allowed.Sees(labels) {
		err = fault.NotFound("get %s: no such volume", name)
	}
	return err
}

func (s *scope) image(ref string) error {
	if len(s.allowed.Labels) == 0 {
		return nil
	}
	labels, err := s.objects.Image(s.ctx, ref)
	if err == nil && !s.allowed.Sees(labels) {
		err = fault.Forbidden("%v: image %s", errNamespace, ref)
	}
	return err
}

// rewrite decodes the body once, lets f look at it and change it, and hands on what came out.
func rewrite[T any](r *route.Request, body *T, f func() error) error {
	if err := r.Decode(body); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r.Body = bytes.NewReader(text)
	return nil
}

func (s *scope) oneContainer(key string) (err error) {
	if s.r.Vars["id"], err = s.container(s.r.Var("id")); err != nil {
		return err
	}
	switch key {
	case "POST /containers/{id}/exec":
		var body container.ExecCreateRequest
		return rewrite(s.r, &body, func() error {
			if body.Privileged && !s.allowed.Privileged {
				return fault.Forbidden("token: privileged mode may not be asked for")
			}
			return nil
		})
	case "POST /containers/{id}/update":
		var body container.UpdateConfig
		return rewrite(s.r, &body, func() error {
			if n := len(body.Devices) + len(body.DeviceRequests) + len(body.DeviceCgroupRules); n > 0 && !s.allowed.Privileged {
				return fault.Forbidden("token: devices may not be asked for")
			}
			return nil
		})
	}
	return nil
}

func (s *scope) oneNetwork(key string) (err error) {
	if s.r.Vars["id"], err = s.network(s.r.Var("id")); err != nil {
		return err
	}
	switch key {
	case "POST /networks/{id}/connect":
		var body network.ConnectRequest
		return rewrite(s.r, &body, func() (err error) {
			body.Container, err = s.container(body.Container)
			return err
		})
	case "POST /networks/{id}/disconnect":
		var body network.DisconnectRequest
		return rewrite(s.r, &body, func() (err error) {
			body.Container, err = s.container(body.Container)
			return err
		})
	}
	return nil
}

func (s *scope) createContainer() error {
	var body struct {
		container.CreateRequest
		MacAddress string `json:",omitempty"`
	}
	return rewrite(s.r, &body, func() error {
		if body.Config == nil {
			return fault.Invalid("config cannot be empty in order to create a container")
		}
		if body.HostConfig == nil {
			body.HostConfig = &container.HostConfig{}
		}
		refs, err := s.allowed.Create(body.Config, body.HostConfig, s.objects.Resolve)
		if err != nil {
			return err
		}
		if body.NetworkingConfig != nil {
			for name := range body.NetworkingConfig.EndpointsConfig {
				refs.Networks = append(refs.Networks, name)
			}
		}
		return s.references(refs)
	})
}

// references is use, with docker's class for what a request names and is not there: a client that gets "not found" for a
// create goes to fetch the image.
func (s *scope) references(refs grant.References) error {
	err := s.use(refs)
	if errdefs.IsNotFound(err) {
		return fault.Invalid("%v", err)
	}
	return err
}

// use checks what a new container would use; volumes that are not there yet are made within the namespace.
func (s *scope) use(refs grant.References) error {
	for _, ref := range refs.Containers {
		if _, err := s.container(ref); err != nil {
			return err
		}
	}
	for _, ref := range refs.Networks {
		if ref == "bridge" || ref == "default" || ref == "none" {
			continue
		}
		if _, err := s.network(ref); err != nil {
			return err
		}
	}
	for _, name := range refs.Volumes {
		err := s.volume(name)
		if errdefs.IsNotFound(err) {
			if _, there := s.objects.Volume(s.ctx, name); there == nil {
				return err // somebody else's
			}
			err = s.objects.MakeVolume(s.ctx, name, s.allowed.Labels)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) createNetwork() error {
	var body network.CreateRequest
	return rewrite(s.r, &body, func() (err error) {
		if !s.allowed.Privileged {
			if body.Driver != "" && body.Driver != "bridge" && body.Driver != "default" {
				return fault.Forbidden("token: networks of driver %s may not be asked for", body.Driver)
			}
			if len(body.Options) > 0 || body.ConfigFrom != nil || body.ConfigOnly {
				return fault.Forbidden("token: options of networks may not be asked for")
			}
		}
		body.Labels, err = s.allowed.Label(body.Labels)
		return err
	})
}

func (s *scope) createVolume() error {
	var body volume.CreateRequest
	return rewrite(s.r, &body, func() (err error) {
		if body.Name != "" {
			if labels, err := s.objects.Volume(s.ctx, body.Name); err == nil && !s.allowed.Sees(labels) {
				return fault.Conflict("volume name %q already used", body.Name)
			}
		}
		if err := s.allowed.VolumeOptions(body.DriverOpts); err != nil {
			return err
		}
		body.Labels, err = s.allowed.Label(body.Labels)
		return err
	})
}

// build puts the namespace on the image, and keeps steps off the host.
func (s *scope) build() error {
	q := s.r.Query
	if q.Get("networkmode") == "host" && !s.allowed.Privileged {
		return fault.Forbidden("token: the host's network may not be asked for")
	}
	if mode, ok := strings.CutPrefix(q.Get("networkmode"), "container:"); ok {
		if _, err := s.container(mode); err != nil {
			return err
		}
	}
	if q.Get("cgroupparent") != "" && !s.allowed.Privileged {
		return fault.Forbidden("token: a cgroup parent may not be asked for")
	}
	if len(s.allowed.Labels) == 0 {
		return nil
	}
	labels := map[string]string{}
	if text := q.Get("labels"); text != "" {
		if err := json.Unmarshal([]byte(text), &labels); err != nil {
			return fault.Invalid("error reading labels: %v", err)
		}
	}
	labels, err := s.allowed.Label(labels)
	if err != nil {
		return err
	}
	text, err := json.Marshal(labels)
	if err == nil {
		q.Set("labels", string(text))
	}
	return err
}
