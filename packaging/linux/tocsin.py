#!/opt/tocsin/bin/python
# `sudo tocsin ...` acts on the service: as its user, with its variables.
from tocsin.cli import service
from tocsin.cli.main import main

service.act_as_packaged_service()
main()
