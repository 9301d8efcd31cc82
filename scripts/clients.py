"""Brings the official clients that tests run apart, and prints their folder."""

import bring

if __name__ == "__main__":
    print(bring.clients(bring.uv()))
