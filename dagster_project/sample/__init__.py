"""The sample world: a book catalogue API, a bookshop site and a drop folder, on loopback, with no internet.

Standard library only; imports nothing of the project and reads no environment. Start it with
`process.ensure_running`, fill the drop folder with `drops.write_drops`, ask `world.World` what is in it. See
docs/sample-world.md.
"""
