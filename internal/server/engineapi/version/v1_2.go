package version

import (
	"longshore/internal/server/route"
)

// v1_2 is what 1.2 changed against 1.1 (changelog, "v1.2 API changes"; original document of 1.1).
func v1_2() Rung {
	return Rung{Version: "1.2", Source: "version-history.md, original/docker_remote_api_v1.1.rst", Changes: []Change{
		{What: "a login answers without a body", Routes: []string{"POST /auth"}, Reply: func(_ *route.Request, resp route.Response) (route.Response, error) {
			if _, ok := resp.(route.JSON); ok {
				return route.Empty{Status: 200}, nil
			}
			return resp, nil
		}},
		{What: "remote of a build", Routes: []string{buildRoute}, Lift: dropQuery("remote")},
		{What: "ports and sizes of the container list", Routes: []string{list}, LowerEach: hideFields("Ports", "SizeRw", "SizeRootFs")},
		{What: "sizes of images", Routes: []string{imageList}, LowerEach: hideFields("Size", "VirtualSize")},
		{What: "size of an image", Routes: []string{imageInspect}, Lower: hideFields("Size")},
		{What: "removal of an image answers 204", Routes: []string{imageDelete}, Reply: func(_ *route.Request, resp route.Response) (route.Response, error) {
			if _, ok := resp.(route.JSON); ok {
				return route.Empty{}, nil
			}
			return resp, nil
		}},
		{What: "credentials of a push", Routes: []string{imagePush}, Lift: func(r *Request) error {
			r.SetBody(nil)
			return nil
		}},
	}}
}
