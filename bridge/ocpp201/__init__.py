"""OCPP 2.0.1: framing, schemas, the embedded central system, native stations and the listener for every charger."""
