// Validate reads a compose file as docker compose would and checks what its schema cannot say.
//
//	validate FILE [ENV_FILE]
//
// It prints one mistake a line and exits with 1 when there is any.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: validate FILE [ENV_FILE]")
		os.Exit(2)
	}
	mistakes, err := check(os.Args[1], os.Args[2:])
	if err != nil {
		mistakes = append(mistakes, err.Error())
	}
	for _, one := range mistakes {
		fmt.Println(one)
	}
	if len(mistakes) > 0 {
		os.Exit(1)
	}
}

func check(file string, environment []string) ([]string, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnvFiles(environment...), cli.WithDotEnv)
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	var mistakes []string
	for _, service := range project.Services {
		for _, text := range faults(service) {
			mistakes = append(mistakes, fmt.Sprintf("service %s: %s", service.Name, text))
		}
	}
	mistakes = append(mistakes, clashes(project)...)
	sort.Strings(mistakes)
	return mistakes, nil
}

// faults are the rules of this deployment for one service.
func faults(service types.ServiceConfig) []string {
	var found []string
	if len(service.DependsOn) > 0 {
		found = append(found, "depends_on: services wait for what they need by themselves")
	}
	if service.HealthCheck == nil || service.HealthCheck.Disable || len(service.HealthCheck.Test) == 0 {
		found = append(found, "no healthcheck")
	}
	if service.Restart == "" || service.Restart == types.RestartPolicyNo {
		found = append(found, "no restart policy")
	}
	if service.Deploy == nil || service.Deploy.Resources.Limits == nil || service.Deploy.Resources.Limits.MemoryBytes == 0 {
		found = append(found, "no memory limit")
	}
	for _, port := range service.Ports {
		if port.HostIP != "127.0.0.1" && port.HostIP != "::1" {
			found = append(found, fmt.Sprintf("port %s is published beyond loopback", port.Published))
		}
	}
	if service.Privileged {
		found = append(found, "privileged")
	}
	return found
}

// clashes are host ports that two services want.
func clashes(project *types.Project) []string {
	var found []string
	owner := map[string]string{}
	for _, name := range project.ServiceNames() {
		for _, port := range project.Services[name].Ports {
			key := port.HostIP + ":" + port.Published + "/" + port.Protocol
			if other, taken := owner[key]; taken && port.Published != "" {
				found = append(found, fmt.Sprintf("services %s and %s both publish %s", other, name, key))
			}
			owner[key] = name
		}
	}
	return found
}
