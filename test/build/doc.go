// Package build tests classic builds, POST /build, with the docker CLI, docker-compose and raw requests of every era.
package build
