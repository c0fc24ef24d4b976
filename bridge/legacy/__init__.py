"""The translation layer: units that speak a dialect of OCPP 1.5 or 1.6 become OCPP 2.0.1 charging stations."""
