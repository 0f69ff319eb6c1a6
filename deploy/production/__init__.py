"""The services of docker-compose.yml as plain processes on loopback: `make production`."""
