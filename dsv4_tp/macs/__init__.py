"""What a Mac's own tools say of it, and which port of which Mac is cabled to which. No opinions.

The tools print, `parse` reads, `mac` puts it together, `links` finds the cables between Macs and
what JACCL, MLX's RDMA over Thunderbolt, has to be told of them.
"""
