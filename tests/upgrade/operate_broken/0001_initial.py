from importlib import import_module

Migration = import_module("tocsin.operate.migrations.0001_initial").Migration
