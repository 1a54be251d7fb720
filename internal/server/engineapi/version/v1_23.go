package version

import (
	"longshore/internal/server/route"
)

// v1_23 is what 1.23 changed against 1.22 (changelog, "v1.23 API changes").
func v1_23() Rung {
	return Rung{Version: "1.23", Source: "version-history.md, docker_remote_api_v1.22.md", Changes: []Change{
		{What: "IdentityToken of a login", Routes: []string{"POST /auth"}, Lower: hideFields("IdentityToken")},
		{What: "pids limit; user namespace mode; the domain belongs to the host name", Routes: []string{create}, Lift: createBelow23},
		{What: "pids limit and user namespace of a container", Routes: []string{inspect}, Lower: hideFields("HostConfig.PidsLimit", "HostConfig.UsernsMode")},
		{What: "State and Mounts of the container list", Routes: []string{list}, LowerEach: hideFields("State", "Mounts")},
		{What: "details of logs", Routes: []string{logsRoute}, Lift: dropQuery("details")},
		{What: "pids of stats", Routes: []string{stats}, Lower: hideFields("pids_stats"), LowerEach: hideFields("pids_stats")},
		{What: "restart policy of an update", Routes: []string{update}, Lift: dropFields("RestartPolicy")},
		{What: "load answers without a body", Routes: []string{imageLoad}, Reply: withoutBody},
		{What: "RootFS of an image", Routes: []string{imageInspect}, Lower: hideFields("RootFS")},
		{What: "CgroupDriver and KernelMemory of info", Routes: []string{info}, Lower: hideFields("CgroupDriver", "KernelMemory")},
		{What: "Internal, EnableIPv6 and Labels of a network", Routes: []string{networkShow}, Lower: hideFields("Internal", "EnableIPv6", "Labels")},
		{What: "Internal, EnableIPv6 and Labels of a network", Routes: []string{networkList}, LowerEach: hideFields("Internal", "EnableIPv6", "Labels")},
		{What: "EnableIPv6 and Labels of a network", Routes: []string{networkCreate}, Lift: dropFields("EnableIPv6", "Labels")},
		{What: "Labels of a volume", Routes: []string{volumeCreate}, Lift: dropFields("Labels"), Lower: hideFields("Labels")},
		{What: "Labels of a volume", Routes: []string{volumeShow}, Lower: hideFields("Labels")},
		{What: "Labels of a volume", Routes: []string{volumeList}, Lower: func(v *View) {
			for _, vol := range v.Body.Member("Volumes").Items() {
				vol.Delete("Labels")
			}
		}},
		{What: "removal of a network answers 200", Routes: []string{"DELETE /networks/{id}"}, Reply: statusOK},
	}}
}

func createBelow23(r *Request) error {
	body, err := r.JSON()
	if err != nil {
		return err
	}
	body.Member("HostConfig").Delete("PidsLimit", "UsernsMode")
	host, domain := body.Member("Hostname").String(), body.Member("Domainname").String()
	if host != "" && domain != "" {
		body.Set("Hostname", host+"."+domain)
	}
	return nil
}

// withoutBody runs a stream to its end and answers an empty 200, or the stream's error.
func withoutBody(r *route.Request, resp route.Response) (route.Response, error) {
	l, ok := resp.(route.Lines)
	if !ok {
		return resp, nil
	}
	if err := l.Run(r.HTTP.Context(), func(any) error { return nil }); err != nil {
		return nil, err
	}
	return route.Empty{Status: 200}, nil
}

// statusOK answers 200 where the newest answers 204.
func statusOK(_ *route.Request, resp route.Response) (route.Response, error) {
	if e, ok := resp.(route.Empty); ok && (e.Status == 0 || e.Status == 204) {
		e.Status = 200
		return e, nil
	}
	return resp, nil
}
